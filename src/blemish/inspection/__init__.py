"""From images to inspections: loading, tiling, masks, regions, decisions."""
