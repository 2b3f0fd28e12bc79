"""Which parts of the design earn their cost: variants of the model trained alike on GFN2-xTB data of C12F27N."""
