"""Ablation: variants of the model, trained in the same way on GFN2-xTB data of C12F27N."""
