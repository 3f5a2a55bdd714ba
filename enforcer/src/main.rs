#![allow(dead_code)]
mod datapath;
mod encode;
mod sync;
#[allow(unused_imports)]
mod skeleton {
    include!(concat!(env!("OUT_DIR"), "/datapath.skel.rs"));
}
fn main() {}
