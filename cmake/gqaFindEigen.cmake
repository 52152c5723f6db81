# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The gqa authors
#
# Used by gqa's own build and, installed beside it, by its package config.

set(GQA_EIGEN_MINIMUM 3.4)

# Finds Eigen3::Eigen; sets `problem` to "" or to what is wrong.
# No version goes into find_package: Eigen's version file accepts only the same major version, so
# asking for 3.4 rejects 5.x and the other way round. The version is compared here instead.
# An Eigen3::Eigen that the enclosing project has made already is taken as it is.
function(gqa_find_eigen problem)
  set(${problem} "" PARENT_SCOPE)
  if(TARGET Eigen3::Eigen)
    return()
  endif()
  find_package(Eigen3 CONFIG QUIET)
  if(NOT Eigen3_FOUND)
    set(${problem}
      "gqa needs Eigen >= ${GQA_EIGEN_MINIMUM}, and no Eigen3Config.cmake was found (Debian: \
apt-get install libeigen3-dev; elsewhere: set CMAKE_PREFIX_PATH or Eigen3_DIR)" PARENT_SCOPE)
  elseif(Eigen3_VERSION VERSION_LESS GQA_EIGEN_MINIMUM)
    set(${problem}
      "gqa needs Eigen >= ${GQA_EIGEN_MINIMUM}, but ${Eigen3_DIR} has ${Eigen3_VERSION}"
      PARENT_SCOPE)
  else()
    message(STATUS "gqa: Eigen ${Eigen3_VERSION} in ${Eigen3_DIR}")
  endif()
endfunction()
