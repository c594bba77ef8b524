"""The weights of a Keras model on JAX.

During ``fit`` the variables are empty, and the weights are arrays in ``model._jax_state``, handed from step to step.
Between two steps nobody else holds them, because the jitted step donates its state: they may be edited in place. That
breaks JAX's word that arrays are immutable, hence the proof at attach. Everywhere else (epoch's end, outside ``fit``,
a step that is not jitted) an array can be anybody's, even a numpy array of the user's that JAX has aliased: it is
copied first, and the copy assigned.

Never through ``callback.model``: reading that property empties the state into the variables, which doubles a step.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np

from dkcore.arrays import Array
from dkcore.errors import ModelError, expected
from dkcore.replica.level import Level, PreparedCall

__all__ = ["LEVELS", "Spare"]

GROUPS = ("trainable_variables", "non_trainable_variables")


class JaxAssign(Level):
    """Synchronize the state into the variables, read and assign."""

    def __init__(self, model: Any, variables: list[Any]) -> None:
        super().__init__(model, variables)
        self._key: tuple[Any, ...] | None = None
        self._places: list[int] = []  # of our variables, in the two groups of the state laid end to end

    def state(self) -> list[Any] | None:
        """The arrays that fit hands to its next step, or None where the variables hold the weights."""
        state = getattr(self.model, "_jax_state", None)
        if not state or self.model._jax_state_synced:
            return None
        trainable, others = (state[group] for group in GROUPS)
        # The search is slow, so it is done anew only when somebody froze or thawed a layer.
        key = (len(trainable), *[variable.trainable for variable in self.variables])
        if key != self._key:
            order = [id(variable) for group in GROUPS for variable in getattr(self.model, group)]
            places = {variable: index for index, variable in enumerate(order)}
            self._places, self._key = [places[id(variable)] for variable in self.variables], key
        arrays = [*trainable, *others]
        return [arrays[place] for place in self._places]

    def values(self) -> list[Any]:
        """The weights as JAX arrays, wherever they are."""
        state = self.state()
        if state is not None:
            return state
        away = [variable.path for variable in self.variables if variable._value is None]
        if away:
            raise ModelError(
                expected(
                    "the model that is in fit, or a model outside of fit",
                    f"{away[0]} is away in the fit of another model",
                    "Make the Replica from the model on which fit is called.",
                )
            )
        return [variable.value for variable in self.variables]

    def arrays(self) -> list[Array]:
        return [np.asarray(value) for value in self.values()]

    def assign(self, variable: Any, array: Array) -> None:
        variable.assign(jnp.array(array))  # array, because asarray and device_put alias a 64-byte aligned numpy array

    def write(self, flat: Array) -> None:
        self.model.jax_state_sync()
        super().write(flat)

    def count(self, variable: Any) -> int:
        if variable._value is not None:
            return int(variable.value)
        index = next(i for i, v in enumerate(self.model.optimizer.variables) if v is variable)
        return int(self.model._jax_state["optimizer_variables"][index])


class JaxPointer(JaxAssign):
    """The arrays' own memory, in place inside fit; copied first everywhere else."""

    name = "jax-pointer"

    def __init__(self, model: Any, variables: list[Any]) -> None:
        super().__init__(model, variables)
        for variable, value in zip(variables, self.values(), strict=True):
            devices = value.sharding.device_set
            if {device.platform for device in devices} != {"cpu"} or len(devices) > 1:
                where = f"{variable.path} on {value.sharding}"
                raise ModelError(expected("weights in host memory, not sharded", where, 'Use level="assign".'))

    def run(self, call: PreparedCall) -> None:
        arrays = self.state()
        if arrays is not None and self.model.jit_compile and not self.model.run_eagerly:
            return self._edit(call, arrays)
        self.model.jax_state_sync()
        copies = [jnp.array(value, copy=True) for value in self.values()]
        try:
            return self._edit(call, copies)
        finally:
            # The center has the stripes that were done before an error, so the model must have its half of them too.
            for variable, copy in zip(self.variables, copies, strict=True):
                variable.assign(copy)

    def _edit(self, call: PreparedCall, arrays: list[Any]) -> None:
        jax.block_until_ready(arrays)
        call.segments(np.array([array.unsafe_buffer_pointer() for array in arrays], np.uint64), self.lengths)


class JaxStep(JaxAssign):
    """New arrays for fit's next step, put in by a wrapper around its step function: nothing immutable is edited."""

    name = "jax-step"

    def __init__(self, model: Any, variables: list[Any]) -> None:
        super().__init__(model, variables)
        self._fresh: dict[int, tuple[Any, Any]] = {}  # id of the old array: the old array, so that its id stays its own; the new

    def write(self, flat: Array) -> None:
        old = self.state()
        if old is None:
            return super().write(flat)
        new = [jnp.array(piece.reshape(array.shape)) for piece, array in zip(self.split(flat), old, strict=True)]
        # Keras keeps copies of these lists: the step gets its arrays from the wrapper, whoever synchronizes gets these.
        trainable, others = (self.model._jax_state[group] for group in GROUPS)
        for place, array in zip(self._places, new, strict=True):
            group, index = (trainable, place) if place < len(trainable) else (others, place - len(trainable))
            group[index] = array
        # A second write before the step comes finds the arrays of the first: the step will still come with the oldest.
        oldest = {id(after): before for before, after in self._fresh.values()}
        pairs = [(oldest.get(id(before), before), after) for before, after in zip(old, new, strict=True)]
        self._fresh = {id(before): (before, after) for before, after in pairs}
        return self._wrap()

    def _wrap(self) -> None:
        function = wrapped = self.model.train_function
        while wrapped is not None:
            if getattr(wrapped, "level", None) is self:
                return
            wrapped = getattr(wrapped, "inner", None)

        def step(state: tuple[Any, ...], iterator: Any) -> Any:
            fresh, self._fresh = self._fresh, {}
            groups = [[fresh.get(id(array), (None, array))[1] for array in group] for group in state[: len(GROUPS)]]
            return function((*groups, *state[len(GROUPS) :]), iterator)

        marked: Any = step
        marked.level, marked.inner = self, function
        self.model.train_function = step


class Spare:
    """Two variables of no model, and a step that treats them as fit does, for the proof of a level."""

    run_eagerly, jit_compile = False, True
    jax_state_sync = keras.Model.jax_state_sync

    def __init__(self, arrays: list[Array]) -> None:
        self.model = self
        self.variables = [keras.Variable(array, dtype=str(array.dtype)) for array in arrays]
        self.trainable_variables, self.non_trainable_variables = self.variables[:1], self.variables[1:]
        step = jax.jit(lambda state: jax.tree.map(lambda array: array + 0, state), donate_argnums=0)
        self.train_function: Callable[[Any, Any], tuple[None, Any]] = lambda state, iterator: (None, step(state))
        self._jax_state_synced = True
        self.read()

    def read(self) -> list[Array]:
        """The values that the next step of fit sees."""
        if self._jax_state_synced:
            self._state = tuple([variable.value for variable in getattr(self, group)] for group in GROUPS)
            self._jax_state_synced = False
        _, self._state = self.train_function(self._state, None)
        self._jax_state = {group: list(arrays) for group, arrays in zip(GROUPS, self._state, strict=True)}
        return [np.array(array) for group in self._state for array in group]


LEVELS = (JaxPointer, JaxStep, JaxAssign)
