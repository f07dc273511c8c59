package main

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
)

// exportRepository makes a bare git repository in dir of what the simulated Bitbucket holds, which
// has no git transport to clone it by.
func (s *stack) exportRepository(ctx context.Context, dir string) error {
	stream, err := s.sim.FastExport(fullName)
	if err != nil {
		return err
	}
	for _, args := range [][]string{{"init", "--quiet", "--bare", "--initial-branch=main", dir}, {"-C", dir, "fast-import", "--quiet", "--force"}} {
		cmd := exec.CommandContext(ctx, "git", args...)
		cmd.Stdin = bytes.NewReader(stream)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("git %v: %w: %s", args, err, out)
		}
	}
	return nil
}
