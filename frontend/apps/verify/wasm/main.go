//go:build js && wasm

// Command wasm is the verifier of the verify page: package evidence, compiled to WebAssembly. It decides nothing itself.
//
// It leaves an object evidenceVerifier in the global scope, whose functions take files as Uint8Array, and then waits to
// be called. What they return is described beside each.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"runtime"
	"syscall/js"

	"github.com/signedapproval/bitbucket/server/evidence"
)

func main() {
	js.Global().Set("evidenceVerifier", map[string]any{
		"go":        runtime.Version(),
		"maxBundle": evidence.MaxBundle,
		"kind":      js.FuncOf(kind),
		"problem":   js.FuncOf(problem),
		"verify":    js.FuncOf(verify),
	})
	select {}
}

// kind tells what a file says that it is: "bundle", "receipt" or "anchors" of any version, or "" where it says none of them.
func kind(_ js.Value, args []js.Value) any { return string(evidence.KindOf(bytesOf(args[0]))) }

// problem tells why an anchors document is refused; "" where it is not.
func problem(_ js.Value, args []js.Value) any {
	if _, err := evidence.ParseAnchors(bytesOf(args[0])); err != nil {
		return err.Error()
	}
	return ""
}

// verify checks a bundle or a receipt against an anchors document, or against none where that is null. It returns {exitCode, sentence,
// report}: the report is the text that the command line prints with --json. Where nothing was verified it returns
// {problem}, a sentence.
func verify(_ js.Value, args []js.Value) (answer any) {
	defer func() {
		// A fault of ours proves nothing about the bundle, and must not end the verifier.
		if fault := recover(); fault != nil {
			answer = map[string]any{"problem": fmt.Sprintf("the verifier failed on this file, which says nothing about it: %v", fault)}
		}
	}()
	var anchors evidence.Anchors
	if !args[1].IsNull() {
		var err error
		if anchors, err = evidence.ParseAnchors(bytesOf(args[1])); err != nil {
			return map[string]any{"problem": err.Error()}
		}
	}
	file := bytesOf(args[0])
	check := evidence.Verify
	if evidence.KindOf(file) == evidence.KindReceipt {
		check = evidence.ReportReceipt
	}
	report := check(file, anchors)
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(report); err != nil {
		return map[string]any{"problem": err.Error()}
	}
	return map[string]any{"exitCode": report.ExitCode(), "sentence": report.Sentence(), "report": text.String()}
}

func bytesOf(array js.Value) []byte {
	data := make([]byte, array.Length())
	js.CopyBytesToGo(data, array)
	return data
}
