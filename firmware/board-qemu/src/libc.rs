//! The few functions of the C library that Mbed TLS names and tinyrlibc does not have.
//!
//! They print. Nothing prints here: Mbed TLS uses them for the text forms of certificates and errors, which the
//! firmware never asks for.

use core::ffi::{c_char, c_int};

macro_rules! silent {
    ($($name:ident),*) => {
        $(
            /// Prints nothing.
            #[unsafe(no_mangle)]
            extern "C" fn $name() -> c_int {
                0
            }
        )*
    };
}

silent!(printf, putchar, puts);

/// Writes the empty string.
#[unsafe(no_mangle)]
unsafe extern "C" fn snprintf(buffer: *mut c_char, size: usize) -> c_int {
    if size > 0 {
        // SAFETY: the caller has `size` bytes there.
        unsafe { buffer.write(0) }
    }
    0
}

/// Writes the empty string.
#[unsafe(no_mangle)]
unsafe extern "C" fn vsnprintf(buffer: *mut c_char, size: usize) -> c_int {
    // SAFETY: as for `snprintf`.
    unsafe { snprintf(buffer, size) }
}
