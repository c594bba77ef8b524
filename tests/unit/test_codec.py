"""Codecs: nothing is lost in the long run, and C, for every instruction set, computes what the formulas do in numpy."""

import threading
import time

import laws
import ml_dtypes
import numpy as np
import pytest

from dkcore.engine.codec import CODECS, Codec
from dkcore.engine.codec_formulas import BLOCK, CODINGS, INT8_LARGEST, LOAD, PASSES, STORE
from dkcore.engine.compile import instruction_sets
from dkcore.engine.load import engine
from dkcore.errors import LayoutError, NotFiniteError

NAMES = ("none", "bf16", "fp16", "int8", "topk:0.01", "topk:1", "topk:0.3")
SIZES = (0, 1, 1023, 1024, 1025, 100_003)
SCALE_LARGEST = 2.0**121  # 127 times it is still a float32
EACH_NAME = pytest.mark.parametrize("name", NAMES)
EACH_DTYPE = pytest.mark.parametrize("dtype", laws.DTYPES)


def numbers(size: int, dtype: str, seed: int = 0) -> np.ndarray:
    """Of very different magnitudes, zeros of both signs, denormals and what saturates among them."""
    random = np.random.default_rng(size + seed)
    made = random.normal(size=size) * 10.0 ** random.integers(-6, 3, size)
    special = [0.0, -0.0, 1e-40, -1e-310, 70_000.0, -65_520.0, 2.0**-24, 2.0**-25, 3.0 * 2.0**-25]
    chosen = random.random(size) < 0.2
    made[chosen] = random.choice(special, size)[chosen]
    return made.astype(dtype)


def halfway(storage: str, dtype: str) -> np.ndarray:
    """All numbers of a format of 16 bits, the middles between neighbours, and what lies just beside these; of both signs."""
    bits = np.arange(0x7F80 if storage == "bf16" else 0x7C00, dtype=np.uint16)
    grid = LOAD["bf16"](bits) if storage == "bf16" else bits.view(np.float16)
    grid = grid.astype(np.float64)
    middle = ((grid[1:] + grid[:-1]) / 2).astype(dtype)
    made = np.concatenate([grid.astype(dtype), middle, np.nextafter(middle, 1), np.nextafter(middle, 0)])
    return np.concatenate([made, -made])


def encoded(codec: Codec, values: np.ndarray, residual: np.ndarray | None = None) -> tuple[np.ndarray, ...]:
    """The message, and what encoding makes of copies of values and residual."""
    message = np.full(codec.bytes(values.size, values.dtype), 0xAA, np.uint8)
    values, residual = values.copy(), None if residual is None else residual.copy()
    codec.encode(values, message, residual)
    return message, values, residual


def decoded(codec: Codec, message: np.ndarray, size: int, dtype) -> np.ndarray:
    values = np.full(size, np.nan, dtype)
    codec.decode(message, values)
    return values


def scale_of(x: np.ndarray) -> np.float32:
    """The scale of a block: its largest magnitude becomes 127. A scale that underflows is 0, and then all comes back as 0."""
    return np.float32(min(float(np.max(np.abs(x), initial=0)) / INT8_LARGEST, SCALE_LARGEST))


def reference(codec: Codec, x: np.ndarray) -> tuple[bytes, np.ndarray]:
    """The message and the values that come back, in numpy."""
    name = CODECS[codec.kind]
    if name == "topk":
        kept = 0 if x.size == 0 else max(1, round(codec.fraction * x.size))
        chosen = np.sort(np.argsort(-np.abs(x), kind="stable")[:kept])
        values = np.zeros_like(x)
        values[chosen] = x[chosen]
        return chosen.astype(np.uint32).tobytes() + x[chosen].tobytes(), values
    message, values = b"", [np.empty(0, x.dtype)]
    for begin in range(0, x.size, BLOCK):
        block = x[begin : begin + BLOCK]
        scalars = {"scale": float(scale_of(block))} if name == "int8" else {}
        made = PASSES[f"{name}_encode"](block, None, block, None, **scalars)
        message += scale_of(block).tobytes() * len(scalars) + made["stored"].tobytes()
        values.append(made["values"])
    return message, np.concatenate(values)


# ---------------------------------------------------------------- nothing is lost


@EACH_NAME
def test_what_was_sent_and_what_is_held_back_are_the_updates(name):
    """Exactly: with whole numbers in float64 no sum is rounded."""
    codec, size, random = Codec.of(name), 3000, np.random.default_rng(1)
    updates, sent, residual = np.zeros(size), np.zeros(size), np.zeros(size)
    for _ in range(60):
        update = random.integers(-30_000, 30_001, size).astype(float)
        updates += update
        message, _, residual = encoded(codec, update, residual)
        codec.decode_add(message, sent)
        np.testing.assert_array_equal(sent + residual, updates)
    if name not in ("none", "topk:1"):
        assert residual.any(), "nothing was compressed"


@EACH_NAME
def test_what_was_sent_and_what_is_held_back_are_the_updates_to_rounding(name):
    codec, random = Codec.of(name), np.random.default_rng(2)
    updates, sent, residual = np.zeros(5000), np.zeros(5000, np.float32), np.zeros(5000, np.float32)
    for _ in range(40):
        update = random.normal(size=5000).astype(np.float32)
        updates += update
        message, _, residual = encoded(codec, update, residual)
        codec.decode_add(message, sent)
    np.testing.assert_allclose(sent.astype(float) + residual, updates, atol=1e-4)


def test_topk_sends_everything_in_the_end():
    codec = Codec.of("topk:0.1")
    update = np.random.default_rng(3).normal(size=1000)
    sent, residual = np.zeros(1000), np.zeros(1000)
    for _ in range(10):
        message, _, residual = encoded(codec, update, residual)
        update = np.zeros(1000)
        codec.decode_add(message, sent)
    assert not residual.any()
    assert sent.all()


# ---------------------------------------------------------------- C equals numpy


@EACH_DTYPE
@EACH_NAME
@pytest.mark.parametrize("size", SIZES)
def test_encode_equals_numpy(name, size, dtype):
    codec, values, residual = Codec.of(name), numbers(size, dtype), numbers(size, dtype, seed=1)
    for rest in (None, residual):
        x = values if rest is None else values + rest
        wanted, back = reference(codec, x)
        message, after, left = encoded(codec, values, rest)
        assert message.tobytes() == wanted
        laws.assert_same_bits([after], [back], ("values",))
        if rest is not None:
            laws.assert_same_bits([left], [x - back], ("residual",))


@EACH_DTYPE
@EACH_NAME
@pytest.mark.parametrize("size", SIZES)
def test_values_are_what_decode_gives(name, size, dtype):
    codec = Codec.of(name)
    message, values, _ = encoded(codec, numbers(size, dtype), numbers(size, dtype, seed=1))
    laws.assert_same_bits([decoded(codec, message, size, dtype)], [values], ("values",))
    total = numbers(size, dtype, seed=2)
    wanted = total + values
    if CODECS[codec.kind] == "topk":  # a zero of ours keeps its sign where nothing was sent
        sent = message[: message.size * 4 // (4 + total.itemsize)].view(np.uint32)
        wanted = total.copy()
        wanted[sent] += values[sent]
    codec.decode_add(message, total)
    laws.assert_same_bits([total], [wanted], ("sum",))


@EACH_DTYPE
@pytest.mark.parametrize("way", instruction_sets())
@pytest.mark.parametrize("coding", CODINGS, ids=lambda coding: coding.name)
def test_kernel_equals_numpy(coding, way, dtype):
    """On any number of elements, and on all that a format can hold, with the middles between."""
    whole = np.append(halfway(coding.storage, dtype), numbers(1000, dtype))
    for x in (whole, *(numbers(size, dtype) for size in laws.SIZES)):
        stored = np.zeros(x.size, {"same": dtype, "bf16": np.uint16, "fp16": np.float16, "int8": np.int8}[coding.storage])
        rest, scalars = np.zeros_like(x), dict.fromkeys(coding.scalars, 0.37)
        _, stored, *_ = compare(f"{coding.name}_encode", way, [x, stored, rest, rest], scalars)
        compare(f"{coding.name}_decode", way, [stored, x], scalars)
        compare(f"{coding.name}_add", way, [stored, x], scalars)


def compare(name: str, way: str, vectors: list[np.ndarray], scalars: dict[str, float]) -> list[np.ndarray]:
    """All vectors after a kernel ran on copies of them, which is what its pass gives in numpy."""
    made = PASSES[name]
    address = engine().find_kernel(name, vectors[made.vectors.index("values")].dtype.name, way)
    found = laws.run(address, vectors, scalars)
    with np.errstate(over="ignore"):
        new = made(*vectors, **scalars)
    for vector, one, old in zip(made.vectors, found, vectors, strict=True):
        bits = f"u{old.itemsize}"
        np.testing.assert_array_equal(one.view(bits), new.get(vector, old).view(bits), err_msg=f"{vector} of {name}, {way}")
    return found


def test_bf16_is_what_others_call_so():
    x = halfway("bf16", "float32")
    np.testing.assert_array_equal(STORE["bf16"](x), x.astype(ml_dtypes.bfloat16).view(np.uint16))


@pytest.mark.parametrize(("name", "step"), [("bf16", 2.0**-7), ("fp16", 2.0**-10)])
def test_a_float64_is_rounded_once(name, step):
    """By way of float32 the second and third would be rounded twice: to the middle, and from there to even."""
    middle, least = 1 + step / 2, 2.0**-50
    values = np.array([middle, middle + least, middle + step - least, middle + step])
    _, after, _ = encoded(Codec.of(name), np.append(values, -values))
    np.testing.assert_array_equal(after[:4], [1, 1 + step, 1 + step, 1 + 2 * step])
    np.testing.assert_array_equal(after[4:], -after[:4])


# ---------------------------------------------------------------- what each codec promises


@EACH_DTYPE
def test_sizes_of_messages(dtype):
    item = np.dtype(dtype).itemsize
    for size in SIZES:
        blocks = -(-size // BLOCK)
        wanted = {"none": size * item, "bf16": 2 * size, "fp16": 2 * size, "int8": size + 4 * blocks}
        wanted |= {"topk:0.01": (max(1, round(0.01 * size)) if size else 0) * (4 + item), "topk:1": size * (4 + item)}
        assert {name: Codec.of(name).bytes(size, dtype) for name in wanted} == wanted


def test_topk_takes_the_lower_index_of_equals():
    codec = Codec.of("topk:0.1")
    _, values, _ = encoded(codec, np.where(np.arange(5000) % 2, -3.0, 3.0))
    np.testing.assert_array_equal(values.nonzero()[0], np.arange(500))
    x = np.ones(5000, np.float32)
    x[[4000, 4500]] = 2, -2
    _, values, _ = encoded(codec, x)
    np.testing.assert_array_equal(values.nonzero()[0], [*range(498), 4000, 4500])


def test_topk_tells_neighbours_apart():
    """The last bits of the magnitude decide, in either dtype."""
    for dtype in laws.DTYPES:
        x = np.ones(3000, dtype)
        x[1234] = np.nextafter(x[0], x[0] * 2)
        _, values, _ = encoded(Codec.of("topk:0.0001"), -x)
        assert values.nonzero()[0].tolist() == [1234]


@EACH_DTYPE
def test_what_is_too_large_saturates_and_the_rest_is_held_back(dtype):
    largest = float(np.finfo(np.float32).max)
    for name, limit in [("fp16", 65504.0), ("bf16", float.fromhex("0x1.fep127")), ("int8", 127 * 2.0**121)]:
        x = np.array([largest, -largest, 1.0], dtype)
        _, values, residual = encoded(Codec.of(name), x, np.zeros(3, dtype))
        np.testing.assert_array_equal(values, np.array([limit, -limit, 0 if name == "int8" else 1], dtype))
        np.testing.assert_array_equal(residual, x - values)
        assert np.isfinite(residual).all()
    if dtype == "float64":
        for name in NAMES:
            _, values, residual = encoded(Codec.of(name), np.full(3, 1e300), np.zeros(3))
            np.testing.assert_array_equal(values + residual, 1e300)


def test_a_block_of_zeros_comes_back_as_zeros():
    for x in (np.zeros(1500, np.float32), np.full(1500, 1e-45, np.float32)):  # the second: a scale that underflows
        message, values, residual = encoded(Codec.of("int8"), x, np.zeros_like(x))
        assert not values.any() and not message.any()
        np.testing.assert_array_equal(residual, x)


def test_messages_may_begin_anywhere():
    for name in NAMES:
        codec, x = Codec.of(name), numbers(1025, "float64")
        size = codec.bytes(x.size, x.dtype)
        message, values, _ = encoded(codec, x)
        room, copy = np.zeros(size + 3, np.uint8), x.copy()
        codec.encode(copy, room[3:])
        np.testing.assert_array_equal(room[3:], message)
        laws.assert_same_bits([decoded(codec, room[3:], 1025, "float64")], [values], ("values",))


# ---------------------------------------------------------------- what is refused


@EACH_DTYPE
@EACH_NAME
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(name, bad, dtype):
    for at in (0, 1023, 1024, 2999):
        values, residual = np.ones(3000, dtype), np.full(3000, 0.125, dtype)
        values[at] = bad
        before, codec = values.copy(), Codec.of(name)
        message = np.empty(codec.bytes(3000, dtype), np.uint8)
        with pytest.raises(NotFiniteError, match=f"element {at} of what is to be encoded"):
            codec.encode(values, message, residual)
        block = at // BLOCK * BLOCK
        np.testing.assert_array_equal(values[block:], before[block:])
        assert (residual[block:] == 0.125).all()


def test_a_sum_that_overflows_is_refused():
    x = np.full(3, np.finfo(np.float32).max)
    with pytest.raises(NotFiniteError, match="element 0"):
        encoded(Codec.of("none"), x, x)


@pytest.mark.parametrize("name", ["int4", "", "topk", "topk:", "topk:0", "topk:1.5", "topk:-0.1", "topk:nan", "topk:1e", "BF16", 8])
def test_an_unknown_codec_is_refused(name):
    with pytest.raises(ValueError, match=r"Expected a codec: none, bf16, fp16, int8, or topk:FRACTION .* Received: ") as caught:
        Codec.of(name)
    assert repr(name) in str(caught.value)


def test_names_are_kept():
    assert [Codec.of(name).name for name in NAMES] == list(NAMES)
    assert Codec.of(None) == Codec.of("none")
    assert Codec.of("topk:1e-2") == Codec.of("topk:0.010")
    assert Codec.of("topk:1e-2").name == "topk:0.01"


def test_arrays_that_do_not_fit_are_refused():
    codec, x, message = Codec.of("int8"), np.zeros(8, np.float32), np.zeros(12, np.uint8)
    locked = np.zeros(12, np.uint8)
    locked.flags.writeable = False
    for error, text, call in [
        (TypeError, "values as a numpy array", lambda: codec.encode([1.0], message)),
        (LayoutError, "values of float32 or float64. Received: int64", lambda: codec.encode(np.zeros(8, np.int64), message)),
        (LayoutError, "values of float32", lambda: codec.encode(x.astype(">f4"), message)),
        (ValueError, "values flat", lambda: codec.encode(x.reshape(2, 4), message)),
        (ValueError, "values flat", lambda: codec.encode(x[::2], message)),
        (ValueError, "aligned", lambda: codec.encode(np.zeros(33, np.uint8)[1:].view(np.float32), message)),
        (LayoutError, "the message of uint8", lambda: codec.encode(x, np.zeros(12, np.int8))),
        (ValueError, "writeable", lambda: codec.encode(x, locked)),
        (LayoutError, "a message of 12 bytes for 8 float32. Received: 11 bytes", lambda: codec.encode(x, message[:11])),
        (LayoutError, "a message of 12 bytes", lambda: codec.decode(message[:11], x)),
        (LayoutError, "a message of 12 bytes", lambda: codec.decode_add(message[:11], x)),
        (LayoutError, "a residual of 8 float32. Received: 8 float64", lambda: codec.encode(x, message, np.zeros(8))),
        (LayoutError, "a residual of 8 float32. Received: 7", lambda: codec.encode(x, message, np.zeros(7, np.float32))),
        (ValueError, "overlap", lambda: codec.encode(x, message, x)),
        (ValueError, "overlap", lambda: codec.decode(x.view(np.uint8), x)),
        (LayoutError, "float32 or float64. Received: float16", lambda: codec.bytes(8, np.float16)),
    ]:
        with pytest.raises(error, match=text):
            call()
    codec.decode(locked, x)  # what is only read may be read-only, as what came over a wire is


def test_a_topk_message_that_points_elsewhere_is_refused():
    codec, x = Codec.of("topk:0.5"), np.zeros(4, np.float32)
    message = np.concatenate([np.uint32([1, 4]).view(np.uint8), np.float32([5, 6]).view(np.uint8)])
    for call in (codec.decode, codec.decode_add):
        with pytest.raises(ValueError, match="names element 4 of 4"):
            call(message, x)


def test_the_engine_refuses_what_it_cannot_encode():
    native, x, message = engine(), np.zeros(4, np.float32), np.zeros(64, np.uint8)
    with pytest.raises(ValueError, match="no codec has the number 9"):
        native.encode(9, 1.0, x, None, message)
    with pytest.raises(ValueError, match="fraction 2"):
        native.decode(4, 2.0, message, x, False)
    assert native.codec_bytes(9, 4, 1.0, 100) == native.codec_bytes(0, 2, 1.0, 100) == native.codec_bytes(4, 4, 0.0, 100) == 0


def test_others_run_while_one_encodes():
    codec, x = Codec.of("topk:0.01"), np.random.default_rng(0).normal(size=20_000_000)
    message = np.empty(codec.bytes(x.size, x.dtype), np.uint8)
    seconds = []

    def encode():
        start = time.perf_counter()
        codec.encode(x, message)
        seconds.append(time.perf_counter() - start)

    thread = threading.Thread(target=encode)
    longest, last = 0.0, time.perf_counter()
    thread.start()
    while thread.is_alive():  # each turn needs the GIL
        time.sleep(0.001)
        now = time.perf_counter()
        longest, last = max(longest, now - last), now
    thread.join()
    assert longest < seconds[0] / 2
