"""The network: activations, losses, layers and optimizers, down to the derivatives."""
