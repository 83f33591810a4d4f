"""A discrete-event fleet simulator for cross-device federated learning."""

from fedsim.moved import answer_imports

answer_imports()
