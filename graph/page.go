package graph

import (
	"math"

	"github.com/signedapproval/bitbucket/server/store"
)

// pageArgs are the arguments of every connection. The gate has bounded first.
type pageArgs struct {
	First *int32
	After *string
}

func (a pageArgs) page() store.Page {
	page := store.Page{}
	if a.First != nil {
		page.First = int(*a.First)
	}
	if a.After != nil {
		page.After = *a.After
	}
	return page
}

type connection[T any] struct {
	Edges    []edge[T]
	PageInfo pageInfo
}

type edge[T any] struct {
	Cursor string
	Node   T
}

type pageInfo struct {
	HasNextPage bool
	EndCursor   *string
}

// connect makes a connection of a page of rows: cursor says where a row stands, node what it is.
func connect[R, T any](rows []R, more bool, cursor func(R) string, node func(R) T) *connection[T] {
	c := &connection[T]{Edges: make([]edge[T], len(rows)), PageInfo: pageInfo{HasNextPage: more}}
	for i, row := range rows {
		c.Edges[i] = edge[T]{Cursor: cursor(row), Node: node(row)}
	}
	if len(rows) > 0 {
		c.PageInfo.EndCursor = &c.Edges[len(rows)-1].Cursor
	}
	return c
}

// each maps a list.
func each[R, T any](rows []R, node func(R) T) []T {
	list := make([]T, len(rows))
	for i, row := range rows {
		list[i] = node(row)
	}
	return list
}

func same[T any](one T) T { return one }

// clamp makes an Int of the SDL, which has 32 bits. No count here comes near them.
func clamp[N int | int64](n N) int32 {
	return int32(max(math.MinInt32, min(math.MaxInt32, int64(n))))
}
