# Writes the library as one header that needs no other file of ours:
#   cmake [-DOUTPUT=path/binmalloc.hpp] -P cmake/amalgamate.cmake
#
# Starting from binmalloc.hpp, a line that includes a header of ours is replaced by that header, the
# first time, and later dropped. Inside an #if nobody knows here whether that was the first time (the
# branch may not be taken), so there the header is put in, and its include guard decides. System
# includes stay as they are.
cmake_minimum_required(VERSION 3.22)

set(include_dir "${CMAKE_CURRENT_LIST_DIR}/../include")
if(NOT DEFINED OUTPUT)
    set(OUTPUT "binmalloc.hpp")
endif()

function(emit text)
    set_property(GLOBAL APPEND_STRING PROPERTY amalgamated "${text}")
endfunction()

# The path, relative to include_dir, of the header of ours that `name` means; empty if none.
function(find_own_header name including_header result)
    get_filename_component(directory "${including_header}" DIRECTORY)
    foreach(candidate IN ITEMS "${name}" "${directory}/${name}")
        get_filename_component(path "${include_dir}/${candidate}" ABSOLUTE)
        if(EXISTS "${path}")
            file(RELATIVE_PATH path "${include_dir}" "${path}")
            set(${result} "${path}" PARENT_SCOPE)
            return()
        endif()
    endforeach()
    set(${result} "" PARENT_SCOPE)
endfunction()

# Emits a header. `depth`: how many #if surround it, include guards not counted.
function(emit_header header depth)
    get_property(emitted GLOBAL PROPERTY emitted_for_certain)
    if(header IN_LIST emitted)
        return()
    endif()
    if(depth EQUAL 0)
        set_property(GLOBAL APPEND PROPERTY emitted_for_certain "${header}")
    endif()

    file(READ "${include_dir}/${header}" text)
    if(NOT text MATCHES "\n#ifndef ([A-Z_]+)\n#define ([A-Z_]+)\n" OR
        NOT CMAKE_MATCH_1 STREQUAL CMAKE_MATCH_2)
        message(FATAL_ERROR "${header} has no include guard")
    endif()
    math(EXPR depth "${depth} - 1")  # the guard brings it back
    while(NOT text STREQUAL "")
        string(FIND "${text}" "\n" line_end)
        math(EXPR line_end "${line_end} + 1")
        string(SUBSTRING "${text}" 0 ${line_end} line)
        string(SUBSTRING "${text}" ${line_end} -1 text)

        set(own_header "")
        if(line MATCHES "^[ \t]*#[ \t]*if")
            math(EXPR depth "${depth} + 1")
        elseif(line MATCHES "^[ \t]*#[ \t]*endif")
            math(EXPR depth "${depth} - 1")
        elseif(line MATCHES "^[ \t]*#[ \t]*include[ \t]*[<\"]([^>\"]+)[>\"]")
            find_own_header("${CMAKE_MATCH_1}" "${header}" own_header)
        endif()

        if(own_header)
            emit_header("${own_header}" ${depth})
        else()
            emit("${line}")
        endif()
    endwhile()
endfunction()

file(READ "${CMAKE_CURRENT_LIST_DIR}/../LICENSE" license)
string(REGEX REPLACE "([^\n]*)\n" "// \\1\n" license "${license}")
string(REPLACE "// \n" "//\n" license "${license}")
emit("// binmalloc in one header, made by cmake/amalgamate.cmake: change the parts, not this.\n//\n")
emit("${license}\n")
emit_header("binmalloc/binmalloc.hpp" 0)

get_property(amalgamated GLOBAL PROPERTY amalgamated)
file(WRITE "${OUTPUT}" "${amalgamated}")
