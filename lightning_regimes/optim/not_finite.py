"""What optimizers raise where a step would be taken from numbers that are no numbers."""


class NotFiniteError(ValueError):
    """The loss, its gradient or a product with its Hessian is not finite; the weights are as before the step."""
