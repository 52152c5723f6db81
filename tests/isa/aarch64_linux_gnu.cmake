# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The gqa authors
#
# CMAKE_TOOLCHAIN_FILE for AArch64 on another machine: Debian's cross compiler
# (g++-aarch64-linux-gnu), and qemu-user to run what it builds, also under ctest.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)  # GoogleTest's project asks for one
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64 -L /usr/aarch64-linux-gnu)
