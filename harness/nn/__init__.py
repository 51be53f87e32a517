"""The network: activations, losses, layers and optimizers, with their derivatives."""
