//! Linker settings of the kernel half.

fn main() {
    // bpf-linker would turn each small clear and copy into a call of a loop over bytes: slower, and libbpf refuses
    // to load such functions.
    println!("cargo:rustc-link-arg=--disable-expand-memcpy-in-order");
    println!("cargo:rerun-if-changed=build.rs");
}
