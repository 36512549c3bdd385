"""The frozen vision-language backbone: CLIP's two towers and its tokenizer, nothing about defects."""
