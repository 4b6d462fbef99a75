package crash_test

const thinning = 1
