"""Networks: multilayer perceptrons, distributions, the discriminator."""
