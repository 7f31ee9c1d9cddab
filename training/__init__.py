"""How a bundle comes to be: data, pre-training, fine-tuning, calibration, evaluation. Needs the `train` extra."""
