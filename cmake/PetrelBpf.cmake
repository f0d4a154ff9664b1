# petrel_bpf(name [SOURCE name] [DEFINE symbol...]): compiles bpf/<name or SOURCE>.bpf.c to a CO-RE
# object and makes <name>.skel.h of it.
find_program(PETREL_CLANG NAMES clang clang-14 REQUIRED)
find_program(PETREL_BPFTOOL bpftool PATHS /usr/sbin /sbin REQUIRED)
find_program(PETREL_LLVM_STRIP NAMES llvm-strip llvm-strip-14 REQUIRED)

set(PETREL_BPF_DIR ${PROJECT_BINARY_DIR}/bpf)
set(PETREL_VMLINUX_BTF /sys/kernel/btf/vmlinux CACHE FILEPATH "BTF of the kernel that vmlinux.h is made from")

# vmlinux.h comes from the running kernel; where it has no BTF, our own minimal header stands in
# (CO-RE relocates its fields on the target all the same). A macro: custom commands belong to the
# directory that declares them.
macro(petrel_vmlinux)
  if(EXISTS ${PETREL_VMLINUX_BTF})
    add_custom_command(
      OUTPUT ${PETREL_BPF_DIR}/vmlinux.h
      COMMAND ${CMAKE_COMMAND} -E make_directory ${PETREL_BPF_DIR}
      COMMAND ${PETREL_BPFTOOL} btf dump file ${PETREL_VMLINUX_BTF} format c > ${PETREL_BPF_DIR}/vmlinux.h
      VERBATIM)
  else()
    add_custom_command(
      OUTPUT ${PETREL_BPF_DIR}/vmlinux.h
      COMMAND ${CMAKE_COMMAND} -E copy ${PROJECT_SOURCE_DIR}/bpf/vmlinux_minimal.h ${PETREL_BPF_DIR}/vmlinux.h
      DEPENDS ${PROJECT_SOURCE_DIR}/bpf/vmlinux_minimal.h)
  endif()
endmacro()

function(petrel_bpf name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "SOURCE" "DEFINE")
  if(NOT arg_SOURCE)
    set(arg_SOURCE ${name})
  endif()
  list(TRANSFORM arg_DEFINE PREPEND -D)
  set(source ${PROJECT_SOURCE_DIR}/bpf/${arg_SOURCE}.bpf.c)
  set(object ${PETREL_BPF_DIR}/${name}.bpf.o)
  set(skeleton ${PETREL_BPF_DIR}/${name}.skel.h)
  add_custom_command(
    OUTPUT ${object}
    COMMAND ${PETREL_CLANG} -target bpf -mcpu=v3 -O2 -g -D__TARGET_ARCH_x86 ${arg_DEFINE} -Wall -Wextra -Werror
            -Wno-unused-parameter -Wno-unused-function
            -Wno-address-of-packed-member -I${PETREL_BPF_DIR} -I${PROJECT_SOURCE_DIR}
            -MD -MF ${object}.d -MT ${object} -c ${source} -o ${object}
    COMMAND ${PETREL_LLVM_STRIP} -g ${object}
    DEPENDS ${source} ${PETREL_BPF_DIR}/vmlinux.h
    DEPFILE ${object}.d
    COMMENT "Compiling BPF object ${name}"
    VERBATIM)
  add_custom_command(
    OUTPUT ${skeleton}
    COMMAND ${PETREL_BPFTOOL} gen skeleton ${object} name ${name}_bpf > ${skeleton}
    DEPENDS ${object}
    COMMENT "Generating skeleton ${name}.skel.h"
    VERBATIM)
  add_custom_target(${name}_skeleton DEPENDS ${skeleton})
endfunction()
