# Finds a compiler for the chips' targets and says how to call it. To be sourced.
#
# Sets CHIP_CARGO (an array) and what it needs in the environment, or CHIP_MISSING, why there is none. Three ways, in this
# order:
#   1. the active toolchain has the targets (`rustup target add riscv32imac-unknown-none-elf riscv32imc-unknown-none-elf`);
#   2. a nightly toolchain with its own library source (`rustup component add rust-src`);
#   3. a nightly 1.97 toolchain, and the library source of 1.97.1 in SIGNET_RUST_LIBRARY (an archive or a folder), where no
#      component can be had.
CHIP_CARGO=()
CHIP_MISSING=

chip_toolchain() {
    local sysroot library
    sysroot=$(rustc --print sysroot)
    if [ -d "$sysroot/lib/rustlib/riscv32imac-unknown-none-elf" ]; then
        CHIP_CARGO=(cargo)
        return
    fi
    if ! sysroot=$(rustc +nightly --print sysroot 2>/dev/null); then
        CHIP_MISSING="the toolchain has no riscv32 targets and there is no nightly; rustup target add riscv32imac-unknown-none-elf riscv32imc-unknown-none-elf"
        return
    fi
    CHIP_CARGO=(cargo +nightly -Zbuild-std=core,alloc)
    if [ -d "$sysroot/lib/rustlib/src/rust/library" ]; then
        return
    fi
    library=${SIGNET_RUST_LIBRARY:-}
    if [ -z "$library" ] || [ ! -e "$library" ]; then
        CHIP_MISSING="the nightly toolchain has no library source; rustup component add rust-src --toolchain nightly, or name the source of its version in SIGNET_RUST_LIBRARY"
        return
    fi
    case $(rustc +nightly --version) in
        "rustc 1.97."*) ;;
        *)
            CHIP_MISSING="SIGNET_RUST_LIBRARY is for Rust 1.97, the nightly is $(rustc +nightly --version)"
            return
            ;;
    esac
    if [ -f "$library" ]; then
        mkdir -p "$work/rust"
        [ -d "$work/rust/library" ] || tar xJf "$library" -C "$work/rust" --one-top-level=library
        library=$work/rust/library
    fi
    export __CARGO_TESTS_ONLY_SRC_ROOT=$library RUSTC_BOOTSTRAP=1
}
