// Command descriptor renders the Forge app for each of its environments and checks it. It is run from the top of the
// repository, where the npm packages are installed.
package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"

	"github.com/signedapproval/bitbucket/descriptor"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := descriptor.Write(ctx, "descriptor", build, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// build bakes the origin into the pages: Forge tells them nothing of the server.
func build(ctx context.Context, origin string) (string, error) {
	command := exec.CommandContext(ctx, "npm", "run", "--silent", "build:forge")
	command.Env = append(os.Environ(), "VITE_SIGNEDAPPROVAL_ORIGIN="+origin)
	if out, err := command.CombinedOutput(); err != nil {
		return "", fmt.Errorf("the pages cannot be built: %w\n%s", err, out)
	}
	return "frontend/dist-forge", nil
}
