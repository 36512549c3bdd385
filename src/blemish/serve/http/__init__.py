"""HTTP: routes, their models, who may call them, errors in one form. What they do is done by the modules around this folder."""
