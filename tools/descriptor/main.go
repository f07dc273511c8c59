// Command descriptor renders the Forge app for each of its environments and checks it. It is run from the top of the
// repository, after the pages were built for Forge.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"

	"github.com/signedapproval/bitbucket/descriptor"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := descriptor.Write(ctx, "descriptor", "frontend/dist-forge", os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
