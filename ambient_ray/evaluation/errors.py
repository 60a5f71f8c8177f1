"""What can be wrong with what a user hands to the evaluation: one class a cause."""

from ambient_ray.errors import UserError


class FeatureShapeError(UserError, ValueError):
    """Features or images whose shapes cannot be compared."""


class NonFiniteFeaturesError(UserError, ValueError):
    """Features that hold NaN or infinity: the images or the extractor's weights are broken."""


class TooFewImagesError(UserError, ValueError):
    """A set too small for the score that was asked of it."""


class LabelsMissingError(UserError, ValueError):
    """Classifier features were asked for, but there is nothing to train the classifier on."""


class UnknownExtractorError(UserError, ValueError):
    """A feature extractor that is neither built in nor importable."""


class BrokenFeatureCacheError(UserError):
    """A cached classifier that is not what its description says."""


class EvaluationSettingsError(UserError, ValueError):
    """An evaluation setting outside its range."""


class IncomparableScoresError(UserError, ValueError):
    """Scores, or a reference and an extractor, that do not belong together."""


class MissingWeightsError(UserError, FileNotFoundError):
    """A file of weights, or a clone of a repository, that is not where it was said to be."""


class WeightsHashError(UserError, ValueError):
    """A file of weights whose SHA-256 is not the expected one."""


class NotAStateDictError(UserError, ValueError):
    """A file that cannot be read as a state dict: damaged, a pickled object, or a TorchScript archive."""


class WrongNetworkError(UserError, ValueError):
    """A state dict of another network."""
