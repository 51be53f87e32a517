"""Apply a trained network to pictures: preprocess, calibrate, register, and serve."""
