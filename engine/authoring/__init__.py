"""For people who write news: drafts questions, and checks that questions need the news and can be answered with it."""
