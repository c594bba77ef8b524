"""The end of `fit`: what Keras and other callbacks make of the weights then is what the center gets."""

SCRIPT = """
import keras
keras.utils.set_random_seed(0)
x = np.random.default_rng(0).standard_normal((64, 4)).astype("float32")
y = x.sum(1, keepdims=True)
for order in sys.argv[1:]:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    with dk.Center.of(model, dk.init()) as center:
        exchange = dk.Exchange(center, "downpour", 2)
        best = keras.callbacks.EarlyStopping("loss", mode="max", patience=9, restore_best_weights=True)  # the first epoch is best
        named = {"exchange": exchange, "best": best, "history": keras.callbacks.History()}
        model.fit(x, y, 16, epochs=4, verbose=0, callbacks=[named[name] for name in order.split("+")])
        assert exchange.steps == 16 and center.slots()[0]["state"] != "training"
        found = [center.counts["live"], bool((center.snapshot() == exchange.replica.read()).all())]
        assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), best.best_weights))
        together = keras.callbacks.CallbackList([exchange], model=model)  # a loop of the user's own, without a history
        together.on_train_begin()
        found.append(center.counts["live"])
        together.on_train_end()
        print(order, *found, center.counts["live"])
"""


def test_the_best_weights_reach_the_center_wherever_the_exchange_stands(script, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    orders = ["exchange+best", "best+exchange", "exchange+best+history", "best+history+exchange"]
    assert script(SCRIPT, *orders).end().splitlines() == [f"{order} 0 True 1 0" for order in orders]
