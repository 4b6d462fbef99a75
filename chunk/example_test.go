package chunk_test

import (
	"fmt"
	"io"
	"log"
	"strings"

	"github.com/cairn-backup/cairn/chunk"
)

// Chunks of a stream, with their names. A repository has its own secret keys
// and sizes a thousand times larger.
func ExampleStream() {
	sizes := chunk.Params{Algorithm: chunk.FastCDC, Min: 64, Avg: 256, Max: 1024}
	splitter, err := chunk.NewSplitter(sizes, [32]byte{1})
	if err != nil {
		log.Fatal(err)
	}
	hasher := chunk.NewHasher(chunk.Keys{Data: [32]byte{2}})

	var text strings.Builder
	for i := range 60 {
		fmt.Fprintf(&text, "line %d of some text\n", i)
	}
	stream := chunk.NewStream(strings.NewReader(text.String()), splitter, nil)
	for {
		p, err := stream.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(len(p), hasher.Sum(chunk.Data, p).Short())
	}
	// Output:
	// 211 ec44682c83
	// 226 c283f8d0df
	// 259 1cde7b2c72
	// 165 4afe791be7
	// 76 3f5160734c
	// 248 59df2e573a
	// 65 c6aaf83ba2
}
