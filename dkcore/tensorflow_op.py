"""``python -m dkcore.tensorflow_op``: see `dkcore.replica.tensorflow_op`."""

from dkcore.replica.tensorflow_op import main

if __name__ == "__main__":
    main()
