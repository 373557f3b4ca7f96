"""Networks: MLPs, action distributions, policies, the discriminator and a numpy copy of the policy."""
