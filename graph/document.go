package graph

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"
	"github.com/vektah/gqlparser/v2/parser"
	"github.com/vektah/gqlparser/v2/validator"
	"github.com/vektah/gqlparser/v2/validator/rules"
)

const (
	// maxDocument bounds the text of a document, in bytes.
	maxDocument = 16 << 10
	// maxTokens bounds a document before it is parsed; it also bounds the time that validation can take.
	maxTokens = 2000
	// maxRepeated bounds how often one response name occurs in a document: validation compares fields of
	// one name pair by pair.
	maxRepeated = 200
	// maxCached bounds the cache; one document of 2000 tokens takes some hundred kilobytes.
	maxCached = 256
	// maxReported bounds how many faults of one document are reported.
	maxReported = 5
)

// library turns texts into valid documents. It is safe for concurrent use: nothing changes a document
// once it is validated.
type library struct {
	schema     *ast.Schema
	rules      *rules.Rules
	registered map[string]*ast.QueryDocument            // by hex SHA-256 of the text; never evicted
	cached     *lru.Cache[[32]byte, *ast.QueryDocument] // valid ones only, so refused texts cannot push them out
}

// newLibrary reads the registered operations, a JSON object of hex SHA-256 to text. Each must be valid
// against the schema: a front end that does not fit the server is found at start.
func newLibrary(schema *ast.Schema, registered []byte) (*library, error) {
	cached, err := lru.New[[32]byte, *ast.QueryDocument](maxCached)
	if err != nil {
		return nil, err
	}
	l := &library{schema: schema, rules: rules.NewDefaultRules(), registered: make(map[string]*ast.QueryDocument), cached: cached}
	texts := make(map[string]string)
	if len(registered) > 0 {
		if err := json.Unmarshal(registered, &texts); err != nil {
			return nil, fmt.Errorf("graph: read the registered operations: %w", err)
		}
	}
	for hash, text := range texts {
		if sum := sha256.Sum256([]byte(text)); hex.EncodeToString(sum[:]) != hash {
			return nil, fmt.Errorf("graph: registered operation %s: its text has another SHA-256", hash)
		}
		document, no := l.parse(text)
		if no != nil {
			return nil, fmt.Errorf("graph: registered operation %s: %s", hash, no.message)
		}
		l.registered[hash] = document
	}
	return l, nil
}

// find gives the document of a request that names a text, the hash of a registered one, or both.
func (l *library) find(text, hash string, registeredOnly bool) (*ast.QueryDocument, *requestError) {
	hash = strings.ToLower(strings.TrimPrefix(hash, "sha256:"))
	if text == "" {
		if document, ok := l.registered[hash]; ok {
			return document, nil
		}
		// The message is what clients of automatic persisted queries look for.
		return nil, refused(codeNotFoundDocument, "PersistedQueryNotFound")
	}
	sum := sha256.Sum256([]byte(text))
	actual := hex.EncodeToString(sum[:])
	if hash != "" && hash != actual {
		return nil, refused(codeBadRequest, "The hash is not the SHA-256 of the text.")
	}
	if document, ok := l.registered[actual]; ok {
		return document, nil
	}
	if registeredOnly {
		return nil, refused(codeNotRegistered, "Only operations of this server's own pages are answered here; scripts use an API token.")
	}
	if document, ok := l.cached.Get(sum); ok {
		return document, nil
	}
	document, no := l.parse(text)
	if no != nil {
		return nil, no
	}
	l.cached.Add(sum, document)
	return document, nil
}

func (l *library) parse(text string) (*ast.QueryDocument, *requestError) {
	if len(text) > maxDocument {
		return nil, refused(codeTooLarge, "A document has at most %d bytes.", maxDocument)
	}
	document, err := parser.ParseQueryWithTokenLimit(&ast.Source{Input: text}, maxTokens)
	if err != nil {
		var fault *gqlerror.Error
		if errors.As(err, &fault) {
			return nil, located(codeParseFailed, gqlerror.List{fault})
		}
		return nil, refused(codeParseFailed, "The document cannot be parsed.")
	}
	for _, fragment := range document.Fragments {
		if len(fragment.VariableDefinition) > 0 {
			return nil, refused(codeValidationFailed, "Fragment %s: fragments take no variables.", fragment.Name)
		}
	}
	if name := overused(document); name != "" {
		return nil, refused(codeTooComplex, "%s is selected more than %d times.", clip(name), maxRepeated)
	}
	if faults := validator.ValidateWithRules(l.schema, document, l.rules); len(faults) > 0 {
		return nil, located(codeValidationFailed, faults)
	}
	return document, nil
}

// overused gives a response name that occurs too often in a document; "" if none does.
func overused(document *ast.QueryDocument) string {
	seen := make(map[string]int)
	var count func(ast.SelectionSet) string
	count = func(set ast.SelectionSet) string {
		for _, selection := range set {
			var inside ast.SelectionSet
			switch selection := selection.(type) {
			case *ast.Field:
				if seen[selection.Alias]++; seen[selection.Alias] > maxRepeated {
					return selection.Alias
				}
				inside = selection.SelectionSet
			case *ast.InlineFragment:
				inside = selection.SelectionSet
			}
			if name := count(inside); name != "" {
				return name
			}
		}
		return ""
	}
	for _, op := range document.Operations {
		if name := count(op.SelectionSet); name != "" {
			return name
		}
	}
	for _, fragment := range document.Fragments {
		if name := count(fragment.SelectionSet); name != "" {
			return name
		}
	}
	return ""
}

// located says what is wrong with a document, and where.
func located(code string, faults gqlerror.List) *requestError {
	if len(faults) > maxReported {
		faults = faults[:maxReported]
	}
	no := &requestError{code: code}
	messages := make([]string, 0, len(faults))
	for _, fault := range faults {
		messages = append(messages, fault.Message)
		for _, at := range fault.Locations {
			no.locations = append(no.locations, location{Line: at.Line, Column: at.Column})
		}
	}
	no.message = strings.Join(messages, " ")
	return no
}

// operation picks the operation to run.
func operation(document *ast.QueryDocument, name string) (*ast.OperationDefinition, *requestError) {
	if name == "" && len(document.Operations) > 1 {
		return nil, refused(codeOperationResolution, "The document holds several operations: name one in operationName.")
	}
	if name == "" && len(document.Operations) == 1 {
		return document.Operations[0], nil
	}
	if found := document.Operations.ForName(name); found != nil && name != "" {
		return found, nil
	}
	return nil, refused(codeOperationResolution, "The document holds no operation %s.", clip(name))
}
