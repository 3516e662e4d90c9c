"""Train a small autoencoder on a dataset's training split: what `dd-bench codec train` does, from Python.

from latentdd_plugin.codec_training import TrainingConfig, train_codec
train_codec(TrainingConfig((DatasetConfig("digits", validation=0.1),), f=2), out="my-vae")  # then codec.path=my-vae
"""

from latentdd_plugin.experiments.codec_training.config import TrainingConfig
from latentdd_plugin.experiments.codec_training.trainer import train_codec
from latentdd_plugin.results.training import Training

__all__ = ["Training", "TrainingConfig", "train_codec"]
