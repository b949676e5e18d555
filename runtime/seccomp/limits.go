package seccomp

// tableSize is how many numbers are counted per ABI. The largest in use is 547 (x32); the last entry of the kernel's tables
// counts the numbers that do not fit.
const tableSize = 640

// maxTuples is how many combinations of argument values are kept per call; a call with more is not restricted.
const maxTuples = 32
