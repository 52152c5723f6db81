# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The gqa authors
#
# Installs the headers, the CMake package and gqa.pc. Nothing depends on the architecture, so all of
# it lives under share/ and the tree may be moved after the installation.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(gqa_package_dir "${CMAKE_INSTALL_DATADIR}/cmake/gqa")
set(gqa_pkgconfig_dir "${CMAKE_INSTALL_DATADIR}/pkgconfig")

install(TARGETS gqa EXPORT gqaTargets FILE_SET HEADERS)
install(EXPORT gqaTargets NAMESPACE gqa:: DESTINATION "${gqa_package_dir}")

configure_package_config_file(
  "${PROJECT_SOURCE_DIR}/cmake/gqaConfig.cmake.in" "${PROJECT_BINARY_DIR}/gqaConfig.cmake"
  INSTALL_DESTINATION "${gqa_package_dir}"
  NO_SET_AND_CHECK_MACRO)
write_basic_package_version_file("${PROJECT_BINARY_DIR}/gqaConfigVersion.cmake"
  COMPATIBILITY SameMinorVersion  # before 1.0 a minor version may break users
  ARCH_INDEPENDENT)
install(FILES
  "${PROJECT_BINARY_DIR}/gqaConfig.cmake"
  "${PROJECT_BINARY_DIR}/gqaConfigVersion.cmake"
  "${PROJECT_SOURCE_DIR}/cmake/gqaFindEigen.cmake"
  DESTINATION "${gqa_package_dir}")

file(RELATIVE_PATH GQA_PC_TO_PREFIX "/${gqa_pkgconfig_dir}" "/")
string(REGEX REPLACE "/$" "" GQA_PC_TO_PREFIX "${GQA_PC_TO_PREFIX}")
configure_file("${PROJECT_SOURCE_DIR}/cmake/gqa.pc.in" "${PROJECT_BINARY_DIR}/gqa.pc" @ONLY)
install(FILES "${PROJECT_BINARY_DIR}/gqa.pc" DESTINATION "${gqa_pkgconfig_dir}")
install(FILES "${PROJECT_SOURCE_DIR}/LICENSE" DESTINATION "${CMAKE_INSTALL_DATADIR}/doc/gqa")
