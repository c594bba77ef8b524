# cython: language_level=3, binding=True, embedsignature=True, autotestdict=False
"""The C engine (src_ext/dkcore.h) as Python objects. No logic: dkcore/center.py has it.

One idiom, without exception: C returns a status, and `CHK` turns it into an exception of dkcore/errors.py.
dkcore/_engine.pyi has every name and its types.
"""
cimport cython
cimport numpy as cnp
from cpython.buffer cimport PyBuffer_FillInfo
from cpython.exc cimport PyErr_CheckSignals
from dkcore cimport *
from libc.string cimport memset

import enum
import os
import threading

import numpy as np

from dkcore import errors

cnp.import_array()

include "listener.pxi"
include "status.pxi"
include "kernel.pxi"
include "role.pxi"
include "segment.pxi"
include "pass.pxi"
include "slot.pxi"
include "call.pxi"
include "codec.pxi"
include "range.pxi"
