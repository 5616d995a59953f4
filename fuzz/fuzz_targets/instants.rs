#![no_main]
libfuzzer_sys::fuzz_target!(init: ordinaut_fuzz::watch(), |bytes: &[u8]| ordinaut_fuzz::run("instants", bytes));
