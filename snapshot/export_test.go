package snapshot

// ParseOpen and EncodeOpen give tests the open part by itself.
var ParseOpen = parseOpen

// EncodeOpen returns the plaintext that ParseOpen reads.
func EncodeOpen(o *Open) []byte { return pad(o.encode()) }
