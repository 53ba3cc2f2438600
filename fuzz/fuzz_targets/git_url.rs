#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    capomastro_fuzzed::git_url(data);
});
