//! Lets the linker find `memory.x`.

fn main() {
    if let Ok(here) = std::env::var("CARGO_MANIFEST_DIR") {
        println!("cargo:rustc-link-search={here}");
    }
    println!("cargo:rerun-if-changed=memory.x");
}
