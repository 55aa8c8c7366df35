//! What the programs share: globals, maps, reading kernel memory, recognising Nginx's connections, emitting.

pub mod conns;
pub mod emit;
pub mod globals;
pub mod listener;
pub mod maps;
pub mod read;
pub mod side;
pub mod skb;
pub mod sock;
pub mod task;
