//! What the configuration file may say, and what it may not.
// The modules are `cfg(test)` for clippy, which lets only test code unwrap.

#[cfg(test)]
mod authority;
#[cfg(test)]
mod bad;
#[cfg(test)]
mod good;
#[cfg(test)]
mod https;
#[cfg(test)]
mod long;
#[cfg(test)]
mod standing;
