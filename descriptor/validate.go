package descriptor

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// validate runs Atlassian's validator over manifests, in one process: compiling its schema takes far longer than
// applying it. It returns the faults of each path; the folder of a path must hold the resources that its manifest names.
func validate(ctx context.Context, paths []string) (map[string][]string, error) {
	_, here, _, _ := runtime.Caller(0)
	command := exec.CommandContext(ctx, "node", "validate.mjs")
	command.Dir = filepath.Dir(here)
	absolute := make(map[string]string, len(paths))
	var in strings.Builder
	for _, path := range paths {
		full, err := filepath.Abs(path)
		if err != nil {
			return nil, err
		}
		absolute[full] = path
		in.WriteString(full + "\n")
	}
	command.Stdin = strings.NewReader(in.String())
	var out, complaints bytes.Buffer
	command.Stdout, command.Stderr = &out, &complaints
	if err := command.Run(); err != nil {
		return nil, fmt.Errorf("the validator of Forge manifests did not run: %w\n%s", err, complaints.String())
	}
	var found map[string][]string
	if err := json.Unmarshal(out.Bytes(), &found); err != nil {
		return nil, fmt.Errorf("the validator of Forge manifests answers nonsense: %w", err)
	}
	faults := make(map[string][]string, len(paths))
	for full, path := range absolute {
		list, answered := found[full]
		if !answered {
			return nil, fmt.Errorf("the validator of Forge manifests says nothing about %s", path)
		}
		faults[path] = list
	}
	return faults, nil
}
