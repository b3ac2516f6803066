# Checks one source that must not compile:
#   cmake -DCOMPILER=g++ -DINCLUDE_DIR=include -DSOURCE=file.cpp -P tests/compile_fail.cmake
#
# Its first line is `// expect: REGEX`, and what the compiler says must match: else it might fail for
# a misspelt name, for ever unnoticed.
cmake_minimum_required(VERSION 3.22)

file(STRINGS "${SOURCE}" expected LIMIT_COUNT 1)
if(NOT expected MATCHES "^// expect: (.+)$")
    message(FATAL_ERROR "${SOURCE} does not begin with `// expect: REGEX`")
endif()
set(expected "${CMAKE_MATCH_1}")

execute_process(COMMAND ${COMPILER} -std=c++20 -fsyntax-only -I${INCLUDE_DIR} ${SOURCE}
    RESULT_VARIABLE status ERROR_VARIABLE output)
if(status EQUAL 0)
    message(FATAL_ERROR "compiles, but must not")
elseif(NOT output MATCHES "${expected}")
    message(FATAL_ERROR "fails to compile, but without \"${expected}\":\n${output}")
endif()
