//! Looks at what is in a directory, whole or broken, without changing a byte of it.

#[cfg(not(loom))]
mod command;
#[cfg(not(loom))]
mod json;
#[cfg(not(loom))]
mod report;

#[cfg(not(loom))]
fn main() -> std::process::ExitCode {
    command::main()
}

#[cfg(loom)]
fn main() {} // the models are made without the library
