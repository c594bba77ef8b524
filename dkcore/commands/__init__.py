"""The commands of ``dkcore``, one file each."""
