"""which_malloc.py: prints the path of the library whose malloc serves this process.

It looks for aligned_alloc, which comes with malloc: the address of malloc itself may be that of
a stub in the interpreter's executable.
"""

import ctypes


class DlInfo(ctypes.Structure):
    _fields_ = [("file", ctypes.c_char_p), ("base", ctypes.c_void_p),
                ("symbol", ctypes.c_char_p), ("address", ctypes.c_void_p)]


process = ctypes.CDLL(None)
info = DlInfo()
process.dladdr(ctypes.cast(process.aligned_alloc, ctypes.c_void_p), ctypes.byref(info))
print(info.file.decode())
