# Language level, warnings, sanitizers, and where binaries go: the same for every target.
option(PETREL_WERROR "Treat warnings as errors" OFF)
option(PETREL_SANITIZE "Build with the address and undefined-behaviour sanitizers" OFF)

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bin)

find_program(PETREL_CCACHE ccache)
if(PETREL_CCACHE)
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

# petrel_library(name SOURCES... [LINK ...]): a static library of one folder of userspace/.
function(petrel_library name)
  cmake_parse_arguments(arg "" "" "LINK" ${ARGN})
  add_library(${name} STATIC ${arg_UNPARSED_ARGUMENTS})
  target_link_libraries(${name} PUBLIC petrel_options ${arg_LINK})
endfunction()

# GCC 12 takes Asio's coroutine frame allocator for a mismatched pair (GCC bug 109224).
add_library(petrel_coroutines INTERFACE)
target_compile_options(petrel_coroutines INTERFACE -Wno-mismatched-new-delete)
