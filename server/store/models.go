package store

import (
	"context"
	"fmt"
)

// ModelsInForce gives the digest of the metadata of authenticators on which verdicts rest, "" before there was any. It stays
// so until the transaction ends, unless that only reads.
func (tx *Tx) ModelsInForce(ctx context.Context) (digest string, err error) {
	read := `select digest from signedapproval_models`
	if tx.tx.rereads == nil {
		read += ` for share`
	}
	if err := tx.tx.QueryRow(ctx, read).Scan(&digest); err != nil {
		return "", fmt.Errorf("store: metadata in force: %w", err)
	}
	return digest, nil
}

// PutModels puts metadata of authenticators into force, after all transactions that rest on what was there before. It
// returns false where what is in force has a larger number: that stays.
func (s *Store) PutModels(ctx context.Context, number int64, digest string) (inForce bool, err error) {
	done, err := s.pool.Exec(ctx, `update signedapproval_models set number = $1, digest = $2 where number <= $1`, number, digest)
	if err != nil {
		return false, fmt.Errorf("store: put metadata into force: %w", err)
	}
	return done.RowsAffected() == 1, nil
}
