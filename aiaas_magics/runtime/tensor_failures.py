"""What torch, numpy and scikit-learn say of arrays that do not fit, in words that name the edit.

The texts are those of torch 2, numpy 2 and scikit-learn 1; the tests raise the real exceptions,
so that a library that rewords one is noticed.
"""

from __future__ import annotations

from aiaas_magics.runtime.diagnosis import pattern

SHAPES = (
    pattern(
        r"mat1 and mat2 shapes cannot be multiplied \((\d+)x(\d+) and (\d+)x(\d+)\)",
        "shapes do not fit: the layer takes {3} features and its input of {1}x{2} has {2}",
        "Make the layer nn.Linear({2}, {4}), or reshape its input to {3} features.",
    ),
    pattern(
        r"expected input(\[.*?\]) to have (\d+) channels, but got (\d+) channels",
        "shapes do not fit: the convolution takes {2} channels and its input {1} has {3}",
        "Build the layer for {3} channels, or give it {2}: the order is (batch, channels, …).",
    ),
    pattern(
        r"Expected (.+?) input to conv(\d)d, but got input of size: (\[.*?\])",
        "shapes do not fit: the convolution takes a {1} input and got {3}",
        "Add the missing dimension, for example x.unsqueeze(1) for one channel.",
    ),
    pattern(
        r"size of tensor a \((\d+)\) must match the size of tensor b \((\d+)\)"
        r" at non-singleton dimension (\d+)",
        "shapes do not fit: two tensors have {1} and {2} values in dimension {3}",
        "Print both shapes before this line; view or unsqueeze makes them alike.",
    ),
    pattern(
        r"shape '(\[.*?\])' is invalid for input of size (\d+)",
        "shapes do not fit: {2} values cannot be viewed as {1}",
        "Let torch count one dimension: view(len(x), -1).",
    ),
    pattern(
        r"Expected input batch_size \((\d+)\) to match target batch_size \((\d+)\)",
        "shapes do not fit: the model's output has {1} rows and the target {2}",
        "Keep the first dimension for the batch in both: view(len(x), -1) does.",
    ),
    pattern(
        r"Target (-?\d+) is out of bounds",
        "the target has class {1}, which the model's output does not have",
        "Give the last layer one output for each class, and number the classes from 0.",
    ),
    pattern(
        r"index out of range in self",
        "an embedding was asked for a row that it does not have",
        "Make num_embeddings larger than the largest index of the data.",
    ),
    pattern(
        r"0D or 1D target tensor expected",
        "shapes do not fit: the target of the loss has a dimension too many",
        "Give class numbers of shape (batch,): target.squeeze(1), or target.argmax(1) for one-hot.",
    ),
    pattern(
        r"target size \(torch\.Size\((\[.*?\])\)\).*input size \(torch\.Size\((\[.*?\])\)\)",
        "shapes do not fit: the target is {1} and the model's output {2}",
        "Give both the same shape: output.squeeze(1), or target.unsqueeze(1).",
    ),
    pattern(
        r"running_mean should contain (\d+) elements not (\d+)",
        "shapes do not fit: the batch norm is made for {2} features and its input has {1}",
        "Build the layer for {1} features.",
    ),
    pattern(
        r"Given normalized_shape=(\[.*?\]).*but got input of size ?(\[.*?\])",
        "shapes do not fit: the layer norm takes {1} and its input is {2}",
        "Build the layer for the last dimension of its input.",
    ),
    pattern(
        r"input\.size\(-1\) must be equal to input_size\. Expected (\d+), got (\d+)",
        "shapes do not fit: the recurrent layer takes {1} features and its input has {2}",
        "Build the layer with input_size={2}.",
    ),
    pattern(
        r"stack expects each tensor to be equal size, but got (\[.*?\]).* and (\[.*?\])",
        "shapes do not fit: tensors of {1} and {2} cannot be stacked into a batch",
        "Pad or cut every example to one length.",
    ),
    pattern(
        r"Sizes of tensors must match except in dimension (\d+)\. Expected size (\d+) but got size "
        r"(\d+)",
        "shapes do not fit: tensors that are joined have {2} and {3} values in a dimension",
        "Print the shapes before this line; only dimension {1} may differ.",
    ),
    pattern(
        r"Error\(s\) in loading state_dict for (\w+): (.{1,160})",
        "the stored state is not one of this {1}: {2}",
        "Build the model as it was when the checkpoint was made, or train without restoring it.",
    ),
    pattern(
        r"size mismatch, got input|Expected size for first two dimensions of batch2"
        r"|could not be broadcast|mismatch in its core dimension|inconsistent numbers of samples",
        "shapes do not fit: {0}",
        "Print the shapes before this line and make them alike.",
    ),
    pattern(
        r"Expected more than 1 value per channel when training",
        "a batch of one row came to a batch norm, which needs two",
        "Drop the last short batch: DataLoader(…, drop_last=True), or choose another batch size.",
    ),
)

TYPES = (
    pattern(
        r"mat1 and mat2 must have the same dtype, but got (\w+) and (\w+)"
        r"|Input type \((\w+)\) and (?:bias|weight) type \((\w+)\) should be the same",
        "number types differ: the input is {1}{3} and the layer {2}{4}",
        "Give the layer what it has: x.float() for float32, x.to(model.dtype) for others.",
    ),
    pattern(
        r"expected (?:target dtype to be|scalar type) (.+?),? but (?:got|found) (\w+)",
        "number types differ: {1} is expected and {2} was given",
        "Class numbers are target.long(), features are x.float().",
    ),
    pattern(
        r"to have one of the following scalar types: (.+?); but got (torch\.)?(\w+)",
        "number types differ: {1} is expected and {3} was given",
        "Indices are x.long().",
    ),
    pattern(
        r"Found dtype (\w+) but expected (\w+)",
        "number types differ: {2} is expected and {1} was given",
        "Bring both to one type, for example with .float().",
    ),
    pattern(
        r"can't convert np\.ndarray of type numpy\.object_|too many dimensions 'str'",
        "a column of texts or lists cannot become a tensor",
        "Encode it as numbers first, or leave the column out.",
    ),
    pattern(
        r"Input \w+ contains NaN",
        "the data has missing values, which this model does not take",
        "Fill or drop them first: frame.fillna(0), frame.dropna().",
    ),
)

DEVICES = (
    pattern(
        r"not compiled with CUDA|Found no NVIDIA driver|No CUDA GPUs are available"
        r"|torch\.cuda\.is_available\(\) is False",
        "the worker has no GPU, and the code asks for one",
        "Write ctx.device instead of 'cuda' (and map_location=ctx.device in torch.load), or submit "
        "with --gpus-per-worker 1.",
    ),
    pattern(
        r"Expected all tensors to be on the same device",
        "tensors lie on different devices",
        "Move the batch to where the model is: x.to(ctx.device).",
    ),
    pattern(
        r"device-side assert",
        "an index is out of bounds on the GPU; most often a class number is larger than the model "
        "has outputs",
        "Run it once on the CPU, without --gpus-per-worker: there the message names the value.",
    ),
)

AUTOGRAD = (
    pattern(
        r"does not require grad and does not have a grad_fn",
        "the loss does not depend on any trainable weight",
        "Compute the loss outside torch.no_grad(), without .detach() or .item(), from parameters "
        "that require gradients.",
    ),
    pattern(
        r"backward through the graph a second time",
        "backward() was called twice for the same computation",
        "Compute the loss anew in each step, and .detach() what is carried from step to step.",
    ),
    pattern(
        r"Expected to have finished reduction in the prior iteration",
        "some of the model's weights take no part in the loss, and workers wait for them",
        "Use every layer in forward(), or leave the unused ones out of the model.",
    ),
    pattern(
        r"Function '(\w+)Backward\d*' returned nan values",
        "the gradient of {1} is not a number",
        "Keep its input away from where it is undefined (clamp it), or lower the learning rate.",
    ),
)
