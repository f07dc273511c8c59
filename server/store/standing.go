package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Standing is who may call Bitbucket for a workspace, at one moment.
type Standing struct {
	Connection   *Connection   // nil where there never was one
	Installation *Installation // as [Tx.Installation]; nil where there never was one
	Now          time.Time     // the database's
}

// Standing reads how a workspace stands, in one round trip: everything that calls Bitbucket begins with it.
func (s *Store) Standing(ctx context.Context, workspace string) (Standing, error) {
	var connection *sealedConnection
	var installation *sealedInstallation
	var standing Standing
	batch := &pgx.Batch{}
	batch.Queue(selectConnection, workspace).Query(maybe(&connection))
	batch.Queue(selectInstallation+lastInstallation, workspace).Query(maybe(&installation))
	var err error
	if standing.Now, err = s.readTogetherAt(ctx, workspace, batch); err != nil {
		return Standing{}, fmt.Errorf("store: standing of a workspace: %w", err)
	}
	if connection != nil {
		opened, err := s.Vault.openConnection(*connection)
		if err != nil {
			return Standing{}, err
		}
		standing.Connection = &opened
	}
	if installation != nil {
		opened, err := s.Vault.openInstallation(*installation)
		if err != nil {
			return Standing{}, err
		}
		standing.Installation = &opened
	}
	return standing, nil
}
