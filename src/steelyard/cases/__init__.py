"""Read, validate, de-duplicate and split the labelled cases of a study."""
