# Install rules: headers, libbinmalloc.so, the CMake package, binmalloc.pc. All of it may be moved
# as a whole; nothing records the prefix.
include(CMakePackageConfigHelpers)
set(package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/binmalloc")

install(DIRECTORY "${PROJECT_SOURCE_DIR}/include/binmalloc" DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}"
    FILES_MATCHING PATTERN "*.hpp" PATTERN "*.h")

set(sources "${CMAKE_CURRENT_LIST_DIR}/targets")
install(FILES "${sources}/c.cpp" "${sources}/override.cpp" "${sources}/override_malloc.cpp"
    DESTINATION "${CMAKE_INSTALL_DATADIR}/binmalloc")

install(TARGETS binmalloc binmalloc_c binmalloc_override binmalloc_override_malloc
    EXPORT binmallocTargets)
if(TARGET binmalloc_preload)
    install(TARGETS binmalloc_preload EXPORT binmallocTargets
        LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}")
endif()
install(EXPORT binmallocTargets NAMESPACE binmalloc:: DESTINATION "${package_dir}")

set(version_file "${PROJECT_BINARY_DIR}/cmake/binmallocConfigVersion.cmake")
write_basic_package_version_file("${version_file}" COMPATIBILITY SameMajorVersion)
install(FILES "${CMAKE_CURRENT_LIST_DIR}/binmallocConfig.cmake" "${version_file}"
    DESTINATION "${package_dir}")

# From lib/pkgconfig up to the prefix, however deep the library directory is.
file(RELATIVE_PATH prefix_from_pc
    "/prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/prefix")
configure_file("${CMAKE_CURRENT_LIST_DIR}/binmalloc.pc.in"
    "${PROJECT_BINARY_DIR}/cmake/binmalloc.pc" @ONLY)
install(FILES "${PROJECT_BINARY_DIR}/cmake/binmalloc.pc"
    DESTINATION "${CMAKE_INSTALL_LIBDIR}/pkgconfig")
install(FILES "${PROJECT_SOURCE_DIR}/LICENSE" DESTINATION "${CMAKE_INSTALL_DOCDIR}")
