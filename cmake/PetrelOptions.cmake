# Language level, warnings, sanitizers, and where binaries go: the same for every target.
option(PETREL_WERROR "Treat warnings as errors" OFF)
option(PETREL_SANITIZE "Build with the address and undefined-behaviour sanitizers" OFF)

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bin)

option(PETREL_PCH "Precompile the headers of Boost.JSON, fmt and GoogleTest; a file that lacks an include is found without" ON)

# ccache reads a precompiled header whole for each file that uses it, which costs what it saves.
find_program(PETREL_CCACHE ccache)
if(PETREL_CCACHE AND NOT PETREL_PCH)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${PETREL_CCACHE})
endif()

add_library(petrel_options INTERFACE)
target_compile_options(petrel_options INTERFACE -Wall -Wextra -Wshadow -Wnon-virtual-dtor -Wconversion
                                                 -Wno-sign-conversion)
target_include_directories(petrel_options INTERFACE ${PROJECT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/userspace)
if(PETREL_WERROR)
  target_compile_options(petrel_options INTERFACE -Werror)
endif()
if(PETREL_SANITIZE)
  add_compile_options(-fsanitize=address,undefined -fno-omit-frame-pointer -fno-sanitize-recover=all)
  add_link_options(-fsanitize=address,undefined)
endif()

find_package(Boost 1.81 REQUIRED COMPONENTS json)
find_package(spdlog REQUIRED)
find_package(CLI11 REQUIRED)
find_package(GTest REQUIRED)
find_package(prometheus-cpp REQUIRED)
find_package(Threads REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(libbpf REQUIRED IMPORTED_TARGET libbpf)
pkg_check_modules(libnl REQUIRED IMPORTED_TARGET libnl-route-3.0)
pkg_check_modules(tomlplusplus REQUIRED IMPORTED_TARGET tomlplusplus)
pkg_check_modules(sqlite REQUIRED IMPORTED_TARGET sqlite3)
find_library(LIBLINEAR linear REQUIRED)
find_path(LIBLINEAR_INCLUDE linear.h PATH_SUFFIXES liblinear REQUIRED)

# Most of a build's time were the same headers, parsed hundreds of times. GCC takes a precompiled
# header only where every macro is as it was, so that those of these libraries are everywhere. Not
# Boost.Asio: what it makes each file instantiate costs more than its parsing.
foreach(library Boost::json fmt::fmt spdlog::spdlog)
  target_compile_definitions(petrel_options INTERFACE $<TARGET_PROPERTY:${library},INTERFACE_COMPILE_DEFINITIONS>)
endforeach()
set(PETREL_BASE_HEADERS <algorithm> <array> <charconv> <chrono> <cmath> <cstdint> <cstring> <deque> <filesystem> <fstream>
    <functional> <iostream> <map> <memory> <optional> <random> <set> <span> <sstream> <string> <string_view>
    <unordered_map> <vector> <boost/json.hpp> <fmt/format.h>)
function(petrel_precompiled name)
  add_library(${name} OBJECT ${PROJECT_SOURCE_DIR}/cmake/precompiled.cpp)
  target_link_libraries(${name} PRIVATE petrel_options Boost::boost)
  if(PETREL_PCH)
    target_precompile_headers(${name} PRIVATE ${PETREL_BASE_HEADERS} ${ARGN})
  endif()
endfunction()
petrel_precompiled(petrel_pch_base)
petrel_precompiled(petrel_pch_test <gtest/gtest.h>)
target_link_libraries(petrel_pch_test PRIVATE GTest::gtest)  # for its own macro
petrel_precompiled(petrel_pch_cli <CLI/CLI.hpp>)
# petrel_use_precompiled(name base|test|cli)
function(petrel_use_precompiled name pch)
  if(PETREL_PCH)
    target_compile_options(${name} PRIVATE -Winvalid-pch)
    target_precompile_headers(${name} REUSE_FROM petrel_pch_${pch})
  endif()
endfunction()

# petrel_library(name SOURCES... [LINK ...]): a static library of one folder of userspace/.
function(petrel_library name)
  cmake_parse_arguments(arg "" "" "LINK" ${ARGN})
  add_library(${name} STATIC ${arg_UNPARSED_ARGUMENTS})
  target_link_libraries(${name} PUBLIC petrel_options ${arg_LINK})
  petrel_use_precompiled(${name} base)
endfunction()

# GCC 12 takes Asio's coroutine frame allocator for a mismatched pair (GCC bug 109224).
add_library(petrel_coroutines INTERFACE)
target_compile_options(petrel_coroutines INTERFACE -Wno-mismatched-new-delete)
