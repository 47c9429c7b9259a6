"""For people who write news: drafts of questions, and whether questions need the news and can be
answered with it."""
